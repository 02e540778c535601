/**
 * Follows one PostgreSQL connection's bytes and takes the notifications (NOTIFY) out of what the server says, when told to.
 * Any other protocol passes untouched: a connection is taken for PostgreSQL by its first eight bytes.
 */

/** Codes in place of a protocol version: the server answers the first two with one unframed byte. */
const SSL_REQUEST = 80_877_103;
const GSS_REQUEST = 80_877_104;
const PROTOCOL_MAJOR = 3;
const STARTUP_BYTES = 8;

/** One byte of type and a length, which counts itself and not the type. */
const HEADER_BYTES = 5;
const LENGTH_BYTES = 4;
const NOTIFICATION_RESPONSE = 'A'.charCodeAt(0);

const NOTHING = Buffer.alloc(0);

export class PostgresNotifications {
  readonly #drops: () => boolean;
  readonly #onDrop: () => void;
  #phase: 'start' | 'messages' | 'opaque' = 'start';
  #fromClient: Buffer = NOTHING;
  #unframedBytes = 0;
  #header: Buffer = NOTHING;
  #bodyBytes = 0;
  #dropping = false;

  constructor(drops: () => boolean, onDrop: () => void) {
    this.#drops = drops;
    this.#onDrop = onDrop;
  }

  /** Reads what the client says until the session has begun. Changes nothing. */
  toServer(bytes: Buffer): void {
    if (this.#phase !== 'start') return;
    this.#fromClient = Buffer.concat([this.#fromClient, bytes]);
    while (this.#phase === 'start' && this.#fromClient.length >= STARTUP_BYTES) {
      const lengthBytes = this.#fromClient.readInt32BE(0);
      const code = this.#fromClient.readInt32BE(LENGTH_BYTES);
      if (lengthBytes === STARTUP_BYTES && (code === SSL_REQUEST || code === GSS_REQUEST)) {
        this.#unframedBytes += 1;
        this.#fromClient = this.#fromClient.subarray(STARTUP_BYTES);
      } else {
        // A TLS handshake, another protocol, or a request to cancel is not followed.
        this.#phase = code >> 16 === PROTOCOL_MAJOR ? 'messages' : 'opaque';
        this.#fromClient = NOTHING;
      }
    }
  }

  /** @returns what the client should get of it. Part of a message's header may be kept until the rest has come. */
  toClient(bytes: Buffer): Buffer {
    const kept: Buffer[] = [];
    let rest = bytes;
    if (this.#unframedBytes > 0) {
      const unframed = rest.subarray(0, this.#unframedBytes);
      this.#unframedBytes -= unframed.length;
      kept.push(unframed);
      rest = rest.subarray(unframed.length);
    }
    if (this.#phase !== 'messages') return Buffer.concat([...kept, rest]);
    while (rest.length > 0) {
      if (this.#bodyBytes === 0) {
        const missing = rest.subarray(0, HEADER_BYTES - this.#header.length);
        this.#header = Buffer.concat([this.#header, missing]);
        rest = rest.subarray(missing.length);
        if (this.#header.length < HEADER_BYTES) break;
        this.#dropping = this.#header[0] === NOTIFICATION_RESPONSE && this.#drops();
        this.#bodyBytes = this.#header.readInt32BE(1) - LENGTH_BYTES;
        if (this.#dropping) this.#onDrop();
        else kept.push(this.#header);
        this.#header = NOTHING;
      }
      const body = rest.subarray(0, this.#bodyBytes);
      if (!this.#dropping) kept.push(body);
      this.#bodyBytes -= body.length;
      rest = rest.subarray(body.length);
    }
    return Buffer.concat(kept);
  }
}
