"""Hooks, and the look-up of plugins by name."""

from __future__ import annotations

from metafe.plugins.registry import PluginInfo, Registry, register, registry, resolve

__all__ = ["PluginInfo", "Registry", "register", "registry", "resolve"]
