package history

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	// chunkSize bounds the lines of a chunk of more than one frame, in octets.
	chunkSize = 256 << 10
	// maxReaders bounds the chunks that are decompressed at the same time.
	maxReaders = 4
)

// chunk is a run of frames that follow each other in a file. It is read at once: where
// little mail comes, a frame has one message, and a day has tens of thousands of them.
type chunk struct {
	offset, length int64 // in the file, with the headers of the frames
	raw            int64 // octets of the lines
}

// chunks returns the runs of frames of a file that have records between two times. A time
// that is zero is no bound.
func chunks(f io.ReaderAt, size int64, since, until time.Time) ([]chunk, error) {
	var list []chunk
	_, _, err := eachFrame(f, size, func(p place) {
		if !until.IsZero() && !p.from.Before(until) || p.to.Before(since) {
			return
		}
		offset, length := p.offset-headerSize, headerSize+int64(p.length)
		if n := len(list) - 1; n >= 0 && list[n].offset+list[n].length == offset && list[n].raw+int64(p.raw) <= chunkSize {
			list[n].length += length
			list[n].raw += int64(p.raw)
			return
		}
		list = append(list, chunk{offset, length, int64(p.raw)})
	})
	return list, err
}

// reader reads chunks on several processors, and hands on what it finds in their order.
type reader struct {
	dec     *zstd.Decoder
	buffers chan *buffers
}

// buffers are the memory for one chunk.
type buffers struct{ file, raw []byte }

func newReader() (*reader, error) {
	n := min(maxReaders, runtime.GOMAXPROCS(0))
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(n), zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	r := &reader{dec: dec, buffers: make(chan *buffers, n)}
	for range n {
		r.buffers <- new(buffers)
	}
	return r, nil
}

func (r *reader) close() { r.dec.Close() }

// result is what was found in a chunk.
type result struct {
	hits []Record
	err  error
}

// each calls find for the lines of each chunk, on several goroutines, and pass for what it
// found, in the order of the chunks. It ends with the first error of pass.
func (r *reader) each(ctx context.Context, f io.ReaderAt, list []chunk, find func(raw []byte) []Record, pass func([]Record) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	results := make(chan chan result, cap(r.buffers)) // of the chunks that were begun, in order
	work.Go(func() {
		defer close(results)
		for _, c := range list {
			var b *buffers
			select {
			case b = <-r.buffers:
			case <-ctx.Done():
				return
			}
			one := make(chan result, 1)
			work.Go(func() {
				raw, err := r.read(f, c, b)
				one <- result{find(raw), err}
				r.buffers <- b
			})
			select {
			case results <- one:
			case <-ctx.Done():
				return
			}
		}
	})
	for one := range results {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		found := <-one
		if found.err != nil {
			return found.err
		}
		if err := pass(found.hits); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// read returns the lines of a chunk, in the memory of b. It skips a damaged frame; the
// others are sound.
func (r *reader) read(f io.ReaderAt, c chunk, b *buffers) ([]byte, error) {
	if int64(cap(b.file)) < c.length || cap(b.file) > 4*chunkSize {
		b.file = make([]byte, max(c.length, chunkSize))
	}
	if cap(b.raw) > 4*chunkSize {
		b.raw = nil // a frame of an unusual size
	}
	b.raw = b.raw[:0]
	file := b.file[:c.length]
	if _, err := f.ReadAt(file, c.offset); err != nil {
		return nil, fmt.Errorf("read frames: %w", err)
	}
	for len(file) > 0 {
		h, err := decodeHeader(file)
		if err != nil || int64(h.length) > int64(len(file)-headerSize) {
			return nil, fmt.Errorf("read frames: the file was changed meanwhile: %w", errNoHeader)
		}
		frame := file[headerSize : headerSize+int(h.length)]
		file = file[headerSize+int(h.length):]
		begin := len(b.raw)
		out, err := r.dec.DecodeAll(frame, b.raw)
		if err != nil {
			out = b.raw[:begin]
		}
		b.raw = out
	}
	return b.raw, nil
}
