"""The main job: an agent that audits the Python environment it runs in. `python -m examples.environment_audit`."""
