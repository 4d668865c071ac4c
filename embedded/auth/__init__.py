"""The embedded Supabase's auth endpoint: users, passwords, sessions, in the form that the official clients expect.

`handlers` is the aiohttp shell, `service` what each request does, `store` the tables in schema auth; `requests`,
`model`, `passwords` and `tokens` are pure.
"""
