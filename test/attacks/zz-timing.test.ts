import { test } from 'vitest';
import { APIKeyGenerator, formatKey, parseKey } from 'pantheon-auth';
import { openEngine } from './harness.ts';
const gen = () => new APIKeyGenerator().generateKey().key;
const wrongOf = (k: string) => formatKey({ ...parseKey(k)!, secret: parseKey(gen())!.secret });
const stat = (a: number[]) => { const s=[...a].sort((x,y)=>x-y).slice(0,Math.floor(a.length*.9)); const m=s.reduce((x,y)=>x+y,0)/s.length; const v=s.reduce((x,y)=>x+(y-m)**2,0)/(s.length-1); return {m,v,n:s.length, med: s[Math.floor(s.length/2)]!}; };
test('t', async () => {
  await using engine = await openEngine({ knownKeysMax: 2 });
  const keys: string[] = [];
  for (let i = 0; i < 1500; i++) keys.push((await engine.create()).key);
  const wrongs = keys.map(wrongOf), unknowns = keys.map(gen);
  for (let round = 0; round < 3; round++) {
  const a: number[] = [], b: number[] = [];
  for (let i = 0; i < 1500; i++) {
    let s = performance.now(); await engine.auth.verify({ key: wrongs[i]! }); a.push(performance.now() - s);
    const u = gen();
    s = performance.now(); await engine.auth.verify({ key: u }); b.push(performance.now() - s);
  }
  const x = stat(a), y = stat(b);
  console.log('cold wrong', x.m*1000, 'us; cold unknown', y.m*1000, 'us; med', x.med*1000, y.med*1000, 't', (x.m-y.m)/Math.sqrt(x.v/x.n+y.v/y.n));
  }
}, 60000);
