"""The live view in the browser, and the viewer of recordings (both need the package viser)."""
