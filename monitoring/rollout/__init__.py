"""The guarded rollout: how far the clients may go at this moment, decided by evidence. Pure; `crossfade.rollout` runs it."""
