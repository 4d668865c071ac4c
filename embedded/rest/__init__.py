"""The REST endpoint of the embedded Supabase: the subset of PostgREST that its official clients use.

`parse` turns a request into a frozen `model.Request`; `statements` turns that and the `schema` cache into
one SQL statement whose values are all parameters; `responses` turns the statement's one row into status,
headers and body. All of that is pure. `handlers` is the aiohttp shell around an asyncpg pool.
"""
