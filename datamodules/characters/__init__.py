"""Drawings of characters: pairs, recognition problems and episodes."""
