"""The command `tamperwatch`: one file per verb, the embedded stack, and the HTML report."""
