"""The timetable, the selection of training data, the retraining run and the promotion rule."""
