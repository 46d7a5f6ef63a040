"""Sparkplug B 3.0: verdicts and health as tags of a SCADA host, beside the JSON topics of `edge.publishers.mqtt`.

`schema`, `codec`, `metrics`, `topics` and `session` are pure; `connection` and `publisher` do the talking. Needs the
`sparkplug` extra, which is imported when a publisher is made. docs/sparkplug.md says what a host sees.
"""
