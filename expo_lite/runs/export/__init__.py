"""What `expo-lite export` does once it knows what is asked: checking, writing, merging, uploading."""
