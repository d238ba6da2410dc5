"""The Compare tab: a question in; three columns, written live, out."""
