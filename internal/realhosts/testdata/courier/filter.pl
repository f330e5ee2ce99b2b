# A filter for Courier's perlfilter: a message with a recipient who is to be deferred is
# deferred the first time, behind the content, where Courier asks its filters.
use IO::File;

my $number = shift @ARGV;
my $socket = IO::File->new("+<&$number");
my $answer = "200 Ok";
<$socket>; # the content
while (defined(my $file = <$socket>)) {
    chomp $file;
    last unless $file;
    my $control = IO::File->new($file, "r") or next;
    foreach my $line (<$control>) {
        chomp $line;
        next unless $line =~ /^r((?:later|data)-.*)/;
        # Nothing of the name comes from elsewhere than the judge.
        $answer = "450 4.2.0 greylisted, come back later" if mkdir "/judge/deferred/$1";
    }
}
print $socket "$answer\n";
$socket->close;
