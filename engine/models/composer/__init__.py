"""The Composer: a transformer that writes scores note by note."""
