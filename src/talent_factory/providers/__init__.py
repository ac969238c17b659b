"""What makes a training image from a portrait: one port, and the adapters that keep its promises."""

from __future__ import annotations
