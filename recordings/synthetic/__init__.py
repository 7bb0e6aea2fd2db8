"""A generator of synthetic recordings: a moving figure and the sound of what it does, in the NTU RGB+D layout."""
