"""The legacy side: the WebSocket server people migrate from, with seed 001's dialect and a link for the collectors.

``protocol/`` and ``ring``, ``hub``, ``stats`` decide; ``server`` and ``process`` are the shells around them.
"""
