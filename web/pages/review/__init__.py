"""The moderators' work: the queue, one picture, and what is said of it."""
