"""Models in and out: other frameworks' files read into Programs, Programs written for them."""
