"""Cleaning while it is heard: sound devices, and the element for GStreamer."""
