/** Requests as bytes, for what no HTTP client would send. */
import { connect } from 'node:net';

export interface RawAnswer {
  /** 0: the connection was cut without an answer. */
  readonly status: number;
  readonly text: string;
}

/** Sends these bytes over a connection of their own and reads all that comes back. */
export function sendRaw(port: number, request: string | Buffer): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(request);
    });
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
    });
    const done = (): void => resolve({ status: Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0), text });
    socket.on('close', done);
    socket.on('error', done);
    socket.setTimeout(5_000, () => {
      socket.destroy();
      reject(new Error('no answer'));
    });
  });
}

/** A GET with exactly these header lines, as bytes. */
export function getWith(lines: readonly (string | Buffer)[], path = '/v1/self'): Buffer {
  const all = [`GET ${path} HTTP/1.1`, 'Host: localhost', 'Connection: close', ...lines, '', ''];
  return Buffer.concat(
    all.map((line) => Buffer.concat([Buffer.from(line as string, 'latin1'), Buffer.from('\r\n')])),
  ).subarray(0, -2);
}
