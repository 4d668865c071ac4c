"""The rollout controller as a part of ``crossfade up``: what it sees, what it decides, and who is told."""
