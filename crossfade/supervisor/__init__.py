"""The supervisor: each part a process of its own, started in order, restarted when it dies, stopped in reverse.

``model`` is the pure state machine of a part; ``process`` and ``launch`` run one child; ``probes`` tell when it is
ready; ``supervisor`` keeps them all going.
"""
