"""Kits and renders over HTTP: the server, its durable queue, the processes that draw, and a typed client."""
