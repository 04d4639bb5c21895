"""The pages that people see: server-rendered HTML, with scripts and styles of our own origin only."""
