"""Alerts: rules over the monitoring stream, what they make of it, and who is told.

The core is pure (`engine` and what it uses): readings and times in, changes and messages out. The shell reads the rule
file, keeps the state on disk and delivers messages. It imports `monitoring` alone; who connects it to a stream is
`crossfade.alerts`.
"""
