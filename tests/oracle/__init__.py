"""The oracle: judges an application's raw topics by the schemas alone, and imports nothing of the engine."""
