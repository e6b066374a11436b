REVISION: int

def cut_plain(
    source: bytes | bytearray, start: int, end: int, limit: int, check_utf8: bool, payloads: list[bytes], /
) -> int: ...
