create schema stsrelay;

-- number is the version of this schema, least the oldest one whose programs can still work
-- with it.
create table stsrelay.version (number int not null, least int not null);
insert into stsrelay.version values (1, 1);

-- A space is what one relay writes. Its term says who that is: a takeover raises the
-- number. since and until are by the clock of this server.
create table stsrelay.spaces (
  id int generated always as identity primary key,
  name text not null unique,
  term bigint not null default 0,
  holder text not null default '',
  token text not null default '',
  since timestamptz not null default '-infinity',
  until timestamptz not null default '-infinity',
  wanted_by text not null default ''
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- The number of the last transaction of each space. Who has lost a connection raises
-- fence: what was sent on it, and was not made yet, is then never made.
create table stsrelay.commits (
  space int primary key references stsrelay.spaces,
  number bigint not null default 0,
  fence bigint not null default 0
) with (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- What the relays keep: the keys and values of docs/store.md. rev is the number of the
-- transaction that wrote the value.
create table stsrelay.entries (
  space int not null,
  key bytea not null,
  value bytea not null,
  rev bigint not null,
  primary key (space, key)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
  toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 2000);
alter table stsrelay.entries alter column value set storage external;

-- hold locks the row of the term until the transaction ends, so that no takeover can
-- pass the transaction.
create function stsrelay.hold(space_id int, term_number bigint) returns void language plpgsql as $$
begin
  perform 1 from stsrelay.spaces s where s.id = space_id and s.term = term_number and s.until > clock_timestamp() for share;
  if not found then
    raise exception 'the term has ended' using errcode = 'ST001';
  end if;
end $$;

-- confirm raises the fence and returns it with the number of the last transaction. It
-- writes, so that its own commit waits for the standbys, and with it everything before.
create function stsrelay.confirm(space_id int, term_number bigint, out last bigint, out new_fence bigint) language plpgsql as $$
begin
  perform stsrelay.hold(space_id, term_number);
  update stsrelay.commits c set fence = c.fence + 1 where c.space = space_id returning c.number, c.fence into strict last, new_fence;
end $$;

-- write makes the changes of one transaction, the one after the transaction that its
-- writer knows to be the last.
create function stsrelay.write(space_id int, term_number bigint, n bigint, f bigint, deletes bytea[], keys bytea[], vals bytea[])
returns void language plpgsql as $$
begin
  perform stsrelay.hold(space_id, term_number);
  update stsrelay.commits c set number = n where c.space = space_id and c.number = n - 1 and c.fence = f;
  if not found then
    raise exception 'another transaction was the last' using errcode = 'ST002';
  end if;
  if cardinality(deletes) > 0 then
    delete from stsrelay.entries e where e.space = space_id and e.key = any (deletes);
  end if;
  if cardinality(keys) > 0 then
    insert into stsrelay.entries (space, key, value, rev)
      select space_id, u.key, u.value, n from unnest(keys, vals) as u(key, value)
      on conflict (space, key) do update set value = excluded.value, rev = excluded.rev;
  end if;
end $$;

-- move makes the changes of write, and deletes the rows of key ranges in another space, if
-- those are as many, with the same sum of revs, as the caller has read. The fence of that
-- space is raised: a transaction of its writer that has read before is refused.
create function stsrelay.move(space_id int, term_number bigint, n bigint, f bigint, deletes bytea[], keys bytea[], vals bytea[],
  source int, froms bytea[], tos bytea[], expected bigint, revs bigint)
returns void language plpgsql as $$
declare
  found_rows bigint;
  found_revs numeric;
begin
  update stsrelay.commits c set fence = c.fence + 1 where c.space = source;
  with gone as (
    delete from stsrelay.entries e using unnest(froms, tos) as r(low, high)
      where e.space = source and e.key >= r.low and e.key < r.high returning e.rev
  ) select count(*), coalesce(sum(gone.rev), 0) into found_rows, found_revs from gone;
  if found_rows <> expected or found_revs <> revs then
    raise exception 'the rows have changed' using errcode = 'ST003';
  end if;
  perform stsrelay.write(space_id, term_number, n, f, deletes, keys, vals);
end $$;

-- What operators order of the relay that holds a space, with its answer. The asker deletes
-- the row. begun is set by the relay that executes the order: what has not begun can be
-- withdrawn.
create table stsrelay.orders (
  id bigint generated always as identity primary key,
  space int not null references stsrelay.spaces,
  made timestamptz not null default clock_timestamp(),
  content bytea not null,
  begun bool not null default false,
  answer bytea
);
