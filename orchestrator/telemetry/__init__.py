"""Traces and metrics, by OpenTelemetry. Nothing is exported, and the library is not even loaded, unless asked for."""
