"""The work behind `expo-lite export`: checking a run, writing its adapter, merging, uploading."""
