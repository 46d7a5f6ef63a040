"""MQTT: `connection` is one, of whoever needs one; `reconnect` holds one after the other; `reporter` tells of them.

A station's own: `window` is what is under way (pure), `traffic` shares it between threads, `station` speaks, and
`publisher` is what the rest of the program uses.
"""
