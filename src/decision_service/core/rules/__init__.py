"""Rule sets: what an analyst writes, from YAML nodes to one Python function a scene."""
