"""MQTT 5: `window` says what is under way (pure), `connection` is one, `publisher` holds one after the other.

`driven`, `keeping` and `credentials` are what Sparkplug and the audit need as well.
"""
