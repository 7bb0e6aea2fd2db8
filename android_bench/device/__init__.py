"""Devices: adb, ssh and this machine."""
