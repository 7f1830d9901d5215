"""The tests: folders mirror `orchestrator/`; `architecture/` holds the rules of the source tree itself."""
