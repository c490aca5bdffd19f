package link

// Buckets is how many buckets the directory of holders has (DESIGN.md, I6): enough
// that a million devices at one edge leave a third of them empty.
const Buckets = 1 << 20

// BucketOf is the bucket of a hash.
func BucketOf(hash uint64) uint32 { return uint32(hash & (Buckets - 1)) }

// HeldBytes is the length of Hello's held.
const HeldBytes = Buckets / 8

// Held reports whether a bucket's bit is set in Hello's held.
func Held(held []byte, bucket uint32) bool { return held[bucket/8]&(1<<(bucket%8)) != 0 }
