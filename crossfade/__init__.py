"""Crossfade: move the clients of a live monitoring stream to Supabase Realtime, with nothing lost and nothing twice."""
