"""Hooks, and the look-up of plugins by name."""

from __future__ import annotations

from metafe.plugins.registry import PluginInfo, Registry, notify, register, registry, resolve

__all__ = ["PluginInfo", "Registry", "notify", "register", "registry", "resolve"]
