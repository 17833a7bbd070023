/**
 * Gives the memory of a buffer back now, and not when the collector comes by: for buffers of megabytes, many times a second.
 * The buffer and all views of it are empty from then on. One that is part of a larger allocation is left alone.
 */
export function freeBuffer(buffer: Buffer): void {
  const memory = buffer.buffer as ArrayBuffer
  if (memory.byteLength === buffer.length) memory.transfer(0)
}
