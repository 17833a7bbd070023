import { tarBlockBytes } from './tar-header.ts'

/** Readers hold a pax header in memory, so that one covers no more than this. */
export const fillerBytesMax = 1024 * 1024

/**
 * Fills `length` bytes from `begin` on with what every reader of tar passes over: global pax headers (POSIX.1-2017, pax
 * Interchange Format, typeflag g) that hold nothing but a comment of spaces. Both are multiples of 512.
 */
export function fillTar(buffer: Buffer, begin: number, length: number): void {
  for (let at = begin, left = length; left > 0; ) {
    const size = Math.min(left, fillerBytesMax)
    writeHeader(buffer.subarray(at, at + tarBlockBytes), size - tarBlockBytes)
    if (size > tarBlockBytes) writeComment(buffer.subarray(at + tarBlockBytes, at + size))
    at += size
    left -= size
  }
}

function writeComment(record: Buffer): void {
  record.fill(' ')
  record.write(`${record.length} comment=`, 'latin1')
  record[record.length - 1] = 0x0a
}

function writeHeader(block: Buffer, size: number): void {
  block.fill(0)
  block.write('pax_global_header', 0, 'latin1')
  block.write('0000644\0', 100, 'latin1')
  block.write('0000000\0', 108, 'latin1')
  block.write('0000000\0', 116, 'latin1')
  block.write(`${size.toString(8).padStart(11, '0')}\0`, 124, 'latin1')
  block.write('00000000000\0', 136, 'latin1')
  block.write('        ', 148, 'latin1')
  block.write('g', 156, 'latin1')
  block.write('ustar\x0000', 257, 'latin1')
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
}
