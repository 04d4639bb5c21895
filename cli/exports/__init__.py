"""The formats of `tamperwatch export`: each takes pages of rows and writes bytes as they come."""
