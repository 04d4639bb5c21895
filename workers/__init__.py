"""From a queue message to a stored result: the Celery app, the micro-batcher, the audit pipeline and the loaded model."""
