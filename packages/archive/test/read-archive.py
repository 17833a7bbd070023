"""
A second reader, in another language, written from docs/archive-format.md: prints what is in an archive as JSON, in the
form of test/vectors/*.json. Needs nothing but Python 3 and the zstd program. Trusts the archive: it is for tests.

    python3 read-archive.py ARCHIVE
"""
import hashlib
import json
import struct
import subprocess
import sys

TYPES = ['file', 'directory', 'symlink', 'hardlink', 'fifo', 'socket', 'character-device', 'block-device']
REASONS = ['deleted', 'unselected']


def zstd(frame):
    return subprocess.run(['zstd', '-q', '-d', '-c'], input=frame, stdout=subprocess.PIPE, check=True).stdout


def read_seek_table(archive):
    """Rows of (offset in the file, size in the file, size of the content)."""
    frames, descriptor, magic = struct.unpack('<IBI', archive[-9:])
    assert magic == 0x8F92EAB1 and descriptor == 0
    start = len(archive) - 9 - 8 * frames
    assert struct.unpack('<II', archive[start - 8:start]) == (0x184D2A5E, 8 * frames + 9)
    rows, offset = [], 0
    for i in range(frames):
        size, content = struct.unpack('<II', archive[start + 8 * i:start + 8 * i + 8])
        rows.append((offset, size, content))
        offset += size
    assert offset == start - 8
    return rows


def unpack(data, at):
    """One msgpack value and the place behind it; of the format, the kinds that an index may hold."""
    def number(size, signed=False):
        return int.from_bytes(data[at + 1:at + 1 + size], 'big', signed=signed), at + 1 + size

    def raw(size, at):
        return data[at:at + size], at + size

    def array(count, at):
        values = []
        for _ in range(count):
            value, at = unpack(data, at)
            values.append(value)
        return values, at

    def pairs(count, at):
        flat, at = array(2 * count, at)
        return dict(zip(flat[::2], flat[1::2])), at

    first = data[at]
    if first < 0x80:
        return first, at + 1
    if first >= 0xE0:
        return first - 0x100, at + 1
    if first < 0x90:
        return pairs(first & 15, at + 1)
    if first < 0xA0:
        return array(first & 15, at + 1)
    if first < 0xC0:
        value, at = raw(first & 31, at + 1)
        return value.decode(), at
    if first == 0xC0:
        return None, at + 1
    if 0xCC <= first <= 0xCF:
        return number(1 << (first - 0xCC))
    if 0xD0 <= first <= 0xD3:
        return number(1 << (first - 0xD0), signed=True)
    kinds = {0xC4: (1, raw), 0xC5: (2, raw), 0xC6: (4, raw), 0xD9: (1, raw), 0xDA: (2, raw), 0xDB: (4, raw),
             0xDC: (2, array), 0xDD: (4, array), 0xDE: (2, pairs), 0xDF: (4, pairs)}
    width, read = kinds[first]
    count, at = number(width)
    value, at = read(count, at)
    return (value.decode() if first in (0xD9, 0xDA, 0xDB) else value), at


def text(name):
    return name.decode('utf-8', 'surrogateescape')


def exact(value):
    return value if value < 2 ** 53 else str(value)


def read_entry(row, archives):
    (path, kind, mode, uid, gid, user, group, size, mtime, mtime_ns, ctime, ctime_ns, ino, dev, nlink,
     target, device, xattrs, flags, project, digest, extents, marks) = row
    return {
        'path': text(path), 'type': TYPES[kind], 'mode': mode, 'uid': uid, 'gid': gid,
        'user': text(user), 'group': text(group), 'size': size,
        'storedSize': sum(length for _, _, length in extents) if marks & 4 else None,
        'mtimeSeconds': mtime, 'mtimeNanoseconds': mtime_ns, 'ctimeSeconds': ctime, 'ctimeNanoseconds': ctime_ns,
        'ino': exact(ino), 'dev': exact(dev), 'nlink': nlink,
        'target': None if target is None else text(target),
        'device': None if device is None else {'major': device[0], 'minor': device[1]},
        'xattrs': None if xattrs is None else {name.decode('latin1'): value.hex() for name, value in xattrs},
        'flags': flags, 'project': project,
        'digest': None if digest is None else digest.hex(),
        'extents': [{'archive': archives[number - 1] if number else None, 'offset': offset, 'length': length}
                    for number, offset, length in extents],
        'changedWhileRead': bool(marks & 1), 'ancestor': bool(marks & 2),
        **({'mountPoint': True} if marks & 8 else {}),
    }


def read_batch(frame):
    magic, size = struct.unpack('<II', frame[:8])
    assert magic == 0x184D2A5B and size == len(frame) - 8
    data = zstd(frame[8:])
    batch, length = unpack(data, 0)
    assert length == len(data) and batch['v'] == 1
    header = batch.get('header')
    if header is not None:
        header['paths'] = [text(path) for path in header['paths']]
        header['exclude'] = [text(pattern) for pattern in header['exclude']]
        header.setdefault('repack', None)
    end = batch.get('end')
    if end is not None:
        end['broken'] = end['broken'] == 1
    entries = [read_entry(row, batch.get('archives', [])) for row in batch['entries']]
    gone = [{'path': text(path), 'reason': REASONS[reason]} for path, reason in batch.get('gone', [])]
    return {'header': header, 'entries': entries, 'gone': gone, 'end': end}


def main(path):
    with open(path, 'rb') as file:
        archive = file.read()
    tar, batches = [], []
    for offset, size, content in read_seek_table(archive):
        frame = archive[offset:offset + size]
        if content == 0:
            batches.append(read_batch(frame))
        else:
            tar.append(zstd(frame))
            assert len(tar[-1]) == content
    tar = b''.join(tar)
    json.dump({'tarBytes': len(tar), 'tarSha256': hashlib.sha256(tar).hexdigest(), 'batches': batches}, sys.stdout)


main(sys.argv[1])
