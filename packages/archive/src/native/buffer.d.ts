/** Methods of Node's Buffer that @types/node does not have: the encodings without their dispatch by name. */
interface Buffer {
  latin1Slice(start?: number, end?: number): string
  latin1Write(text: string, offset?: number, length?: number): number
  utf8Slice(start?: number, end?: number): string
}
