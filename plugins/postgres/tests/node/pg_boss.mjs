// pg-boss with its own statements and workers: node - PACKAGE URL SCHEMA FUNCTION.
const [name, connectionString, schema, step] = process.argv.slice(2);
const library = await import(name);
const PgBoss = library.PgBoss ?? library.default;
const boss = new PgBoss({ connectionString, schema, supervise: false, schedule: false });
boss.on('error', (error) => { throw error; });

const DUE = '00000000-0000-4000-8000-000000000001';

async function fill() {
  const hour = 3600;
  await boss.createQueue('emails');
  await boss.createQueue('images', { name: 'images', retryLimit: 0, partition: true });
  await boss.createQueue('flaky', { name: 'flaky', retryLimit: 1, retryDelay: 0 });
  await boss.createQueue('reports', { name: 'reports', retryLimit: 2, retryDelay: hour });
  for (const queue of ['due', 'taken', 'empty']) await boss.createQueue(queue);
  for (let n = 0; n < 3; n++) await boss.send('emails', { secret: 'of a user' });
  await boss.send('emails', {}, { priority: 5 });
  await boss.send('emails', {}, { startAfter: hour });
  await boss.send('images', {});
  await boss.send('flaky', {});
  await boss.send('due', {}, { id: DUE });
  await boss.send('taken', {});
  await boss.fetch('taken');
  await boss.send('reports', {});
  const [job] = await boss.fetch('reports');
  await boss.fail('reports', job.id);
  await boss.schedule('emails', '0 3 * * *');
  if (boss.flow) {
    await boss.flow([
      { ref: 'first', name: 'emails', data: {} },
      { ref: 'second', name: 'reports', data: {}, dependsOn: ['first'] },
    ]);
  }
}

// Two workers of each queue, until all that is ready has ended.
async function work() {
  let left = boss.flow ? 8 : 7;
  await new Promise(async (resolve) => {
    const ended = () => { if (--left === 0) resolve(); };
    let tries = 0;
    const handlers = {
      emails: async () => { ended(); },
      images: async () => { ended(); throw new Error('secret of a traceback'); },
      flaky: async () => { ended(); if (++tries === 1) throw new Error('not yet'); },
    };
    for (const [queue, handler] of [...Object.entries(handlers), ...Object.entries(handlers)]) {
      await boss.work(queue, { pollingIntervalSeconds: 0.5 }, handler);
    }
  });
  await boss.stop({ graceful: true, close: false, wait: true });
  await boss.start();
  await boss.cancel('due', DUE);
  if (boss.flow) await boss.resolveFlow(); // writes again what has ended, and what waited is ready
}

await boss.start();
await { fill, work }[step]();
await boss.stop({ graceful: true });
process.exit(0);
