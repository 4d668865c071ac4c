"""A local Supabase: PostgreSQL, Realtime and REST behind one port; knows nothing of monitoring."""
