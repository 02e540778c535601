/**
 * Detects that the address uses TLS and the server does not, or the other way round. Neither gives an error: one waits
 * for more data, the other closes the connection. Checked once, when the first connection failed, without user and
 * password.
 */
import { connect as connectPlain, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { SECOND_MS } from '../../foundation/clock.ts';
import type { Secret } from '../../foundation/secret.ts';

/** As long as connecting may take. */
const LOOK_MS: number = SECOND_MS;
const PORT_DEFAULT = 6379;
/** The beginning of replies to `PING`: `+PONG`, `-NOAUTH …`, `-DENIED …`, `-LOADING …`. */
const REPLY = /^(?:\+PONG|-[A-Z]{3,} )/;

/** The advice; null: the protocol is right, or unknown. */
export async function protocolMistake(seed: Secret): Promise<string | null> {
  const { protocol, hostname, port } = new URL(seed.reveal());
  const place = { host: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? PORT_DEFAULT : Number(port) };
  if (protocol === 'rediss:')
    return (await speaksPlain(place))
      ? 'Redis does not speak TLS on this port. Give its port for TLS (tls-port), or write redis://.'
      : null;
  return (await speaksTls(place)) ? 'This port speaks TLS. Write rediss://.' : null;
}

interface Place {
  readonly host: string;
  readonly port: number;
}

function speaksPlain(place: Place): Promise<boolean> {
  const socket = connectPlain(place);
  return looked(socket, (found) => {
    socket.once('connect', () => socket.write('PING\r\n'));
    socket.once('data', (data) => found(REPLY.test(data.toString('latin1'))));
  });
}

function speaksTls(place: Place): Promise<boolean> {
  // The certificate is not checked, because nothing is sent and nothing received is used.
  const socket = connectTls({
    ...place,
    rejectUnauthorized: false,
    ...(isIP(place.host) === 0 && { servername: place.host }),
  });
  return looked(socket, (found) => {
    socket.once('secureConnect', () => found(true));
  });
}

async function looked(socket: Socket, look: (found: (is: boolean) => void) => void): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), LOOK_MS);
  socket.on('error', () => resolve(false));
  socket.once('close', () => resolve(false));
  look(resolve);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}
