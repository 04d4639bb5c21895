"""Tensors and pictures only: the student, its teacher, training, files and metrics. No SQL, no celery, no settings."""
