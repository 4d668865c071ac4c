"""Adapters: one file for each implementation of a port, and the spool with its forwarders."""
