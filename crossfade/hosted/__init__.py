"""A Supabase project of somebody else's: whether Crossfade can live there, how it moves in, and how it moves out.

`facts` asks the database, `judging` says what that means, `installing`, `users` and `env_file` do the work, `removing`
undoes it.
"""
