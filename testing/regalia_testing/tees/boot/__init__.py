"""Images and event logs of boots that never were."""
