"""Tasks and a mode become a plan."""
