"""HTTP services over the database: ASGI applications. `crossfade` decides where they listen and what they are given."""
